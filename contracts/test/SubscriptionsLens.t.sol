// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {AccessCredentialNFT} from "../src/AccessCredentialNFT.sol";
import {BlockhostSubscriptions} from "../src/BlockhostSubscriptions.sol";
import {SubscriptionsLens} from "../src/SubscriptionsLens.sol";
import {ISubscriptionsLens} from "../src/interfaces/ISubscriptionsLens.sol";
import {SubscriptionsFixture} from "./SubscriptionsFixture.sol";

/// @dev A host's NFT contract of the generation without expiry, as far as the lens asks it.
contract LaterNft {
    function owner() external pure returns (address) {
        return address(7);
    }

    function ownerOf(uint256 tokenId) external pure returns (address) {
        require(tokenId == 3);
        return address(9);
    }

    function getAccessData(uint256) external pure returns (uint256, uint256, uint256) {
        return (1, 2, 3);
    }
}

/// @dev One whose tokens expire later than any clock counts.
contract EternalNft {
    function ownerOf(uint256) external pure returns (address) {
        return address(9);
    }

    function getAccessData(uint256) external pure returns (bytes memory, string memory, uint256, uint256) {
        return ("", "", 1, type(uint256).max);
    }
}

/// @dev Deployed, the lens leaves as code what eth_call would answer.
contract SubscriptionsLensTest is SubscriptionsFixture {
    uint256 private constant OPEN = 3 << 249;

    AccessCredentialNFT private _nft;
    uint256[] private _none;

    function setUp() public override {
        super.setUp();
        vm.startPrank(_host);
        _nft = new AccessCredentialNFT("BlockHost Access", "BHAC", "");
        _nft.setMinter(_stranger);
        vm.stopPrank();
    }

    function test_snapshot_tellsOfTheBlock() external {
        vm.deal(_host, 77);
        vm.deal(_stranger, 5);
        address[] memory wallets = new address[](2);
        (wallets[0], wallets[1]) = (_stranger, _host);
        ISubscriptionsLens.Snapshot memory s =
            _decode(address(new SubscriptionsLens(_subs, address(_nft), 0, 0, _none, _none, wallets)));
        vm.assertEq(s.blockNumber, 1000, "blockNumber");
        vm.assertEq(s.timestamp, START, "timestamp");
        vm.assertEq(s.chainId, block.chainid, "chainId");
        vm.assertEq(s.balances.length, 2, "balances");
        vm.assertEq(s.balances[0], 5, "of the first");
        vm.assertEq(s.balances[1], 77, "of the second");
    }

    function test_snapshot_tellsOfTheContracts() external {
        _buy(1);
        _createPlan("Large", 2 ** 96 - 1);
        vm.startPrank(_host);
        _subs.updatePlan(1, "Basic", 7, false);
        _subs.setPlanRenewable(2, false);
        _subs.setPurchasesPaused(true);
        _mint(_buyer, 0);
        ISubscriptionsLens.Snapshot memory s = _snapshot(0, 0, _none, _none);
        vm.assertEq(s.subscriptionCount, 1, "subscriptionCount");
        vm.assertEq(s.planCount, 2, "planCount");
        vm.assertEq(s.owner, _host, "owner");
        vm.assertTrue(s.purchasesPaused, "purchasesPaused");
        vm.assertEq(s.nftOwner, _host, "nftOwner");
        vm.assertEq(s.nftMinter, _stranger, "nftMinter");
        vm.assertEq(s.tokenCount, 1, "tokenCount");
        vm.assertEq(s.plans.length, 2, "plans");
        vm.assertEq(s.plans[0], 7 | 2 << 96, "closed, renewable");
        vm.assertEq(s.plans[1], (2 ** 96 - 1) | 1 << 96, "open, not renewable");
        vm.assertEq(s.subscriptions.length, 0, "none wanted");
    }

    function test_snapshot_tellsOfSubscriptions() external {
        _buy(1);
        vm.roll(1001);
        _buy(2);
        _cancel(1);
        ISubscriptionsLens.Snapshot memory s = _snapshot(0, 10, _ids(2, 9, 1), _none);
        uint256 first = uint256(uint160(_buyer)) | START << 160 | 1 << 200 | 1000 << 216 | 1 << 248 | OPEN;
        uint256 second = uint256(uint160(_buyer)) | (START + 2 days) << 160 | 1 << 200 | 1001 << 216 | OPEN;
        _assertIds(s.subscriptions, _ids(first, second), "in order of id");
        _assertIds(s.watched, _ids(second, 0, first), "in the order asked for");
    }

    function test_snapshot_startsAfterCursor() external {
        for (uint256 i = 0; i < 5; i++) {
            _buy(i + 1);
        }
        _assertPage(0, 2, 1, 2, "the first two");
        _assertPage(2, 2, 3, 2, "the next two");
        _assertPage(4, 2, 5, 1, "the last one");
        _assertPage(0, type(uint256).max, 1, 5, "all");
        _assertPage(5, 2, 0, 0, "no more");
        _assertPage(type(uint256).max, 2, 0, 0, "a cursor of another chain");
        _assertPage(0, 0, 0, 0, "none wanted");
    }

    function test_snapshot_fillsTheAnswerAndNoMore() external {
        for (uint256 i = 0; i < 760; i++) {
            _buy(1);
        }
        _assertPage(0, 1000, 1, 746, "768 words less 21 and a plan");
        _assertPage(746, 1000, 747, 14, "the rest");
        vm.assertEq(_answer(0, 1000, _none, _none).length, 24_576, "bytes");
        uint256[] memory watchIds = new uint256[](300);
        uint256[] memory tokenIds = new uint256[](200);
        for (uint256 i = 0; i < 70; i++) {
            _createPlan("", 1);
        }
        ISubscriptionsLens.Snapshot memory s = _snapshot(0, 1000, watchIds, tokenIds);
        vm.assertEq(s.plans.length, 64, "the first plans");
        vm.assertEq(s.subscriptions.length, 183, "watching takes room");
    }

    function test_snapshot_tellsOfTokens() external {
        vm.startPrank(_host);
        _mint(_buyer, START + 5);
        _mint(_stranger, 0);
        vm.stopPrank();
        ISubscriptionsLens.Snapshot memory s = _snapshot(0, 0, _none, _ids(1, 2, 0));
        uint256 first = uint256(uint160(_buyer)) | (START + 5) << 160;
        _assertIds(s.tokens, _ids(uint256(uint160(_stranger)), 0, first), "in the order asked for");
    }

    function test_snapshot_ofOtherNfts() external {
        address[] memory wallets;
        ISubscriptionsLens.Snapshot memory s =
            _decode(address(new SubscriptionsLens(_subs, address(new LaterNft()), 0, 0, _none, _ids(2, 3), wallets)));
        _assertIds(s.tokens, _ids(0, 9), "no expiry");
        vm.assertEq(s.nftOwner, address(7), "nftOwner");
        vm.assertEq(s.nftMinter, address(0), "no minter");
        vm.assertEq(s.tokenCount, 0, "no count");
        s = _decode(address(new SubscriptionsLens(_subs, address(new EternalNft()), 0, 0, _none, _ids(2), wallets)));
        vm.assertEq(s.tokens[0], 9 | uint256(type(uint40).max) << 160, "the last second that fits");
        s = _decode(address(new SubscriptionsLens(_subs, address(0), 0, 0, _none, _ids(2), wallets)));
        vm.assertEq(s.nftOwner, address(0), "no contract");
        vm.assertEq(s.tokens.length, 0, "no tokens");
    }

    function test_snapshot_revertsWithNoContract() external {
        address[] memory wallets;
        vm.expectRevert(abi.encodeWithSelector(ISubscriptionsLens.NoContract.selector, address(0)));
        this.look(address(0), address(_nft), _none, wallets);
        vm.expectRevert(abi.encodeWithSelector(ISubscriptionsLens.NoContract.selector, _buyer));
        this.look(address(_subs), _buyer, _none, wallets);
    }

    function test_snapshot_revertsWithTooManyWatched() external {
        address[] memory wallets = new address[](1);
        vm.expectRevert(abi.encodeWithSelector(ISubscriptionsLens.TooManyWatched.selector, 501, 500));
        this.look(address(_subs), address(_nft), new uint256[](250), wallets);
        this.look(address(_subs), address(_nft), new uint256[](249), wallets);
    }

    function test_snapshot_fitsTheGas() external {
        for (uint256 i = 0; i < 500; i++) {
            _buy(1);
        }
        bytes memory creation = bytes.concat(
            type(SubscriptionsLens).creationCode, abi.encode(_subs, _nft, 0, 1000, _none, _none, new address[](0))
        );
        uint256 few = _lengthWith(creation, 8_000_000);
        vm.assertLe(100, few, "some");
        vm.assertLe(few, 499, "not all");
        vm.assertEq(_lengthWith(creation, 30_000_000), 500, "all, with what a block has");
        vm.assertEq(_lengthWith(creation, 4_000_000), type(uint256).max, "refused");
        vm.expectRevert();
        this.create{gas: 4_000_000}(creation);
    }

    function test_snapshot_needsNoGasForNoSubscriptions() external {
        bytes memory creation = bytes.concat(
            type(SubscriptionsLens).creationCode, abi.encode(_subs, _nft, 0, 9, _none, _none, new address[](0))
        );
        vm.assertEq(_lengthWith(creation, 1_000_000), 0, "none");
    }

    function test_fuzz_snapshot(uint256 count, uint256 cursor, uint256 max) external {
        count = _bound(count, 0, 30);
        for (uint256 i = 0; i < count; i++) {
            _buy(i + 1);
        }
        cursor = _bound(cursor, 0, 35);
        max = _bound(max, 0, 35);
        uint256 left = cursor < count ? count - cursor : 0;
        _assertPage(cursor, max, cursor + 1, left < max ? left : max, "page");
    }

    // ---- short forms

    function look(address subs, address nft, uint256[] memory ids, address[] memory wallets) external {
        new SubscriptionsLens(BlockhostSubscriptions(subs), nft, 0, 0, ids, ids, wallets);
    }

    function create(bytes memory creation) public returns (address created) {
        assembly ("memory-safe") {
            created := create(0, add(creation, 32), mload(creation))
            if iszero(created) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    /// @dev Number of subscriptions answered by a call with this gas; 2^256-1 if it reverts.
    function _lengthWith(bytes memory creation, uint256 gasLimit) private returns (uint256) {
        try this.create{gas: gasLimit}(creation) returns (address created) {
            return _decode(created).subscriptions.length;
        } catch {
            return type(uint256).max;
        }
    }

    function _mint(address to, uint256 expires) private {
        _nft.mint(to, BLOB, "secret", "", "", "", expires);
    }

    function _answer(uint256 cursor, uint256 max, uint256[] memory watchIds, uint256[] memory tokenIds)
        private
        returns (bytes memory)
    {
        address[] memory wallets;
        return address(new SubscriptionsLens(_subs, address(_nft), cursor, max, watchIds, tokenIds, wallets)).code;
    }

    function _snapshot(uint256 cursor, uint256 max, uint256[] memory watchIds, uint256[] memory tokenIds)
        private
        returns (ISubscriptionsLens.Snapshot memory)
    {
        return abi.decode(_answer(cursor, max, watchIds, tokenIds), (ISubscriptionsLens.Snapshot));
    }

    function _decode(address lens) private view returns (ISubscriptionsLens.Snapshot memory) {
        return abi.decode(lens.code, (ISubscriptionsLens.Snapshot));
    }

    function _assertPage(uint256 cursor, uint256 max, uint256 firstId, uint256 length, string memory what) private {
        uint256[] memory page = _snapshot(cursor, max, _none, _none).subscriptions;
        vm.assertEq(page.length, length, what);
        uint256[] memory ids = new uint256[](length);
        for (uint256 i = 0; i < length; i++) {
            ids[i] = firstId + i;
        }
        _assertIds(page, _subs.getSubscriptionRecords(ids), what);
    }
}
