// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRequests} from "../src/BrokerRequests.sol";
import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {PlainNft} from "./Nfts.sol";
import {Test} from "./Test.sol";

/// @dev A broker's contract, a host with its NFT contract, and short forms of what tests do with them.
abstract contract BrokerRequestsFixture is Test {
    uint256 internal constant START = 1_770_000_000;
    bytes internal constant PAYLOAD = hex"04c0ffee";
    bytes internal constant RESPONSE = hex"0000000000000001beef";

    address internal _broker = _wallet("broker");
    address internal _host = _wallet("host");
    address internal _stranger = _wallet("stranger");
    BrokerRequests internal _requests;
    PlainNft internal _nft;

    function setUp() public virtual {
        vm.warp(START);
        vm.prank(_broker);
        _requests = new BrokerRequests();
        _nft = new PlainNft(_host);
    }

    function _submit(PlainNft nft, bytes memory payload) internal returns (uint256 requestId) {
        vm.prank(nft.owner());
        return _requests.submitRequest(address(nft), payload);
    }

    function _submit() internal returns (uint256 requestId) {
        return _submit(_nft, PAYLOAD);
    }

    /// @dev A request of an NFT contract of its own.
    function _submitOther() internal returns (uint256 requestId) {
        return _submit(new PlainNft(_host), PAYLOAD);
    }

    function _respond(uint256 requestId, bytes memory response) internal {
        vm.prank(_broker);
        _requests.submitResponse(requestId, response);
    }

    function _respond(uint256 requestId) internal {
        _respond(requestId, RESPONSE);
    }

    function _respondMany(uint256[] memory ids, bytes32[] memory digests, bytes[] memory responses) internal {
        vm.prank(_broker);
        _requests.submitResponses(ids, digests, responses);
    }

    /// @dev Answers ids with the digests the contract has at the moment.
    function _respondMany(uint256[] memory ids, bytes[] memory responses) internal {
        bytes32[] memory digests = new bytes32[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) {
            digests[i] = _requests.requestDigest(ids[i]);
        }
        _respondMany(ids, digests, responses);
    }

    function _release(address by) internal {
        vm.prank(by);
        _requests.releaseAllocation(address(_nft));
    }

    function _assertStatus(uint256 requestId, IBrokerRequests.RequestStatus status, string memory what) internal view {
        vm.assertEq(uint256(_requests.getRequest(requestId).status), uint256(status), what);
    }

    function _assertCounts(uint256 pending, uint256 active, string memory what) internal view {
        vm.assertEq(_requests._pendingCount(), pending, what);
        vm.assertEq(_requests._activeCount(), active, what);
    }

    function _mapped(PlainNft nft) internal view returns (uint256) {
        return _requests.nftContractToRequestId(address(nft));
    }

    function _ids(uint256 a) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](1);
        ids[0] = a;
    }

    function _ids(uint256 a, uint256 b) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](2);
        (ids[0], ids[1]) = (a, b);
    }

    /// @dev `first`, `first` + 1, and so on.
    function _idsFrom(uint256 first, uint256 count) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](count);
        for (uint256 i = 0; i < count; i++) {
            ids[i] = first + i;
        }
    }

    function _responses(uint256 count, uint256 length) internal pure returns (bytes[] memory responses) {
        responses = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            responses[i] = _bytes(i, length);
        }
    }

    function _digests(bytes32 a) internal pure returns (bytes32[] memory digests) {
        digests = new bytes32[](1);
        digests[0] = a;
    }

    function _unauthorized(address caller) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", caller);
    }
}
