// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BlockhostSubscriptions} from "../src/BlockhostSubscriptions.sol";
import {Test} from "./Test.sol";
import {TestToken} from "./Tokens.sol";

/// @dev A host's contract with one plan of $10 a day, a stablecoin of six decimals, a buyer with money, and short forms
/// of what tests do with them.
abstract contract SubscriptionsFixture is Test {
    uint256 internal constant START = 1_770_000_000;
    uint256 internal constant PRICE = 1000;
    bytes internal constant BLOB = hex"04c0ffee";

    address internal _host = _wallet("host");
    address internal _buyer = _wallet("buyer");
    address internal _stranger = _wallet("stranger");
    BlockhostSubscriptions internal _subs;
    TestToken internal _usdc;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(1000);
        vm.startPrank(_host);
        _subs = new BlockhostSubscriptions();
        _usdc = new TestToken("USD Coin", "USDC", 6);
        _subs.createPlan("Basic", PRICE);
        _subs.setPrimaryStablecoin(address(_usdc));
        vm.stopPrank();
        _enrich(_usdc, _buyer);
    }

    /// @dev Gives `who` more money than any test spends, for the contract to take.
    function _enrich(TestToken token, address who) internal {
        token.mint(who, 1e40);
        vm.prank(who);
        token.approve(address(_subs), type(uint256).max);
    }

    function _buy(uint256 planId, uint256 days_) internal returns (uint256) {
        vm.prank(_buyer);
        return _subs.buySubscription(planId, days_, 1, BLOB);
    }

    function _buy(uint256 days_) internal returns (uint256) {
        return _buy(1, days_);
    }

    function _extend(uint256 subscriptionId, uint256 days_) internal {
        vm.prank(_buyer);
        _subs.extendSubscription(subscriptionId, days_, 1);
    }

    function _createPlan(string memory name, uint256 price) internal returns (uint256) {
        vm.prank(_host);
        return _subs.createPlan(name, price);
    }

    function _updatePlan(uint256 planId, uint256 price, bool active) internal {
        vm.prank(_host);
        _subs.updatePlan(planId, "Basic", price, active);
    }

    function _cancel(uint256 subscriptionId) internal {
        vm.prank(_host);
        _subs.cancelSubscription(subscriptionId);
    }

    /// @dev The primary stablecoin is another one from here on, and the buyer has it.
    function _useStablecoin(TestToken token) internal {
        vm.prank(_host);
        _subs.setPrimaryStablecoin(address(token));
        _enrich(token, _buyer);
    }

    function _assertExpiry(uint256 subscriptionId, uint256 expected, string memory what) internal view {
        (,, uint256 expiresAt,,) = _subs.getSubscription(subscriptionId);
        vm.assertEq(expiresAt, expected, what);
    }

    function _unauthorized(address caller) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", caller);
    }

    function _ids(uint256 a) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](1);
        ids[0] = a;
    }

    function _ids(uint256 a, uint256 b) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](2);
        (ids[0], ids[1]) = (a, b);
    }

    function _ids(uint256 a, uint256 b, uint256 c) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](3);
        (ids[0], ids[1], ids[2]) = (a, b, c);
    }

    function _assertIds(uint256[] memory left, uint256[] memory right, string memory what) internal pure {
        vm.assertEq(abi.encode(left), abi.encode(right), what);
    }
}
